"""What is optional, and is not there."""

from __future__ import annotations

import pytest

from lazyckpt.errors import MissingPackage
from lazyckpt.runtime.optional import optional_import


def test_a_package_that_is_not_there_is_told_with_the_extra_that_brings_it():
    """The error is an ImportError that names the package."""
    with pytest.raises(MissingPackage) as caught, optional_import("plot"):
        import lazyckpt_has_no_such_friend  # noqa: F401

    assert (isinstance(caught.value, ImportError), caught.value.name) == (True, "lazyckpt_has_no_such_friend")
    assert str(caught.value) == "lazyckpt_has_no_such_friend is not installed: pip install 'lazyckpt[plot]'"


def test_a_package_that_is_broken_tells_so_itself():
    """What is there and does not import is not called missing."""
    with pytest.raises(ImportError) as caught, optional_import("plot"):
        from json import no_such_thing  # noqa: F401

    assert not isinstance(caught.value, MissingPackage)
