"""All fuzzing targets by name."""

from __future__ import annotations

from fuzzing import checkpoints, commands, encrypted, listings, references, safetensors, sidecars, slices, strategies
from fuzzing.target import Target

TARGETS: dict[str, Target] = {
    **checkpoints.TARGETS,
    **safetensors.TARGETS,
    **encrypted.TARGETS,
    **strategies.TARGETS,
    **listings.TARGETS,
    **references.TARGETS,
    **commands.TARGETS,
    **sidecars.TARGETS,
    **slices.TARGETS,
}
