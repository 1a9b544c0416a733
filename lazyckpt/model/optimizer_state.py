"""Names of training state: the moments, counters and rates that optimizers save beside a net's values.

MindSpore's optimizers keep a copy of each parameter under `<prefix>.<name of the parameter>`, and scalars under names
of their own. A prefix that a net might also use for a layer (`linear`) counts only if the rest of the name is itself a
parameter. Pure functions of names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_OWNERS: Final = ("optimizer.", "optim.", "opt.")
_SCALARS: Final = frozenset(
    (
        "afactor_step", "beta1_power", "beta2_power", "cooldown_counter", "cov_step", "current_iterator_step", "epoch",
        "epoch_num", "fake_lr", "global_step", "last_overflow_iterator_step", "learning_rate", "loss_scale", "momentum",
        "mu_schedule", "scale_sense", "scale_value", "state_step", "step", "step_num", "step_t", "T_0", "T_cur", "T_i",
        "weight_decay",
    )
)  # fmt: skip
_COPIES: Final = frozenset(
    (
        "accu_grads", "accum", "accum_update", "accumulate_", "adam_m", "adam_v", "exp_avg", "exp_avg_diff",
        "exp_avg_sq", "exp_inf", "lamb_m", "lamb_v", "max_exp_avg_sq", "mean_grad", "mean_square", "moment1", "moment2",
        "moments", "momentum_buf", "muon_m", "pre_grad", "vhat",
    )
)  # fmt: skip
_MAYBE_COPIES: Final = frozenset(("ax", "ax_", "linear", "moment", "prev", "stat", "step_size"))
_JOINED: Final = ("exp_avg_sq_row_", "exp_avg_sq_col_", "exp_avg_sq_", "mu_", "eta_")  # no dot before the name
_NUMBERED: Final = ("learning_rate_group_", "matrix_a_inv_", "matrix_g_inv_", "matrix_max")


def is_optimizer_state(name: str, exists: Callable[[str], bool]) -> bool:
    """Whether a name is one of an optimizer's state or of a training loop's counters.

    Args:
        name: of a parameter.
        exists: whether the checkpoint has a parameter of a name.
    """
    if name in _SCALARS or name.startswith(_OWNERS + _NUMBERED):
        return True
    prefix, _, rest = name.partition(".")
    if prefix in _COPIES:
        return bool(rest)
    if prefix in _MAYBE_COPIES:
        return bool(rest) and exists(rest)
    return any(name.startswith(joined) and exists(name.removeprefix(joined)) for joined in _JOINED)
