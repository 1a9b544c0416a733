"""Which names are an optimizer's state: those of MindSpore's optimizers and training loops."""

from __future__ import annotations

import pytest

from lazyckpt.model.optimizer_state import is_optimizer_state

NET = ["fc.weight", "model.layers.0.wq.weight", "weight", "linear.weight", "moment.out"]


@pytest.mark.parametrize(
    "name",
    [
        "moment1.fc.weight",
        "moment2.not.in.this.file",
        "moments.fc.weight",
        "adam_m.model.layers.0.wq.weight",
        "adam_v.model.layers.0.wq.weight",
        "optimizer.adam_m.fc.weight",
        "optimizer.anything",
        "lamb_v.fc.weight",
        "accum.fc.weight",
        "accu_grads.fc.weight",
        "exp_avg.fc.weight",
        "exp_avg_sq_row_fc.weight",
        "mu_fc.weight",
        "linear.fc.weight",
        "prev.fc.weight",
        "beta1_power",
        "beta2_power",
        "learning_rate",
        "learning_rate_group_0",
        "global_step",
        "epoch_num",
        "loss_scale",
        "scale_sense",
        "momentum",
        "matrix_a_inv_3",
    ],
)
def test_copies_of_parameters_and_counters_are_state(name):
    """The names that optimizers and training loops give their values."""
    assert is_optimizer_state(name, NET.__contains__)


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight",
        "linear.bias",
        "moment.out",
        "prev.layer.weight",
        "step_size",
        "stat.mean",
        "mu_net.weight",
        "moment1",
        "adam_m",
        "model.adam_m.weight",
        "momentum_encoder.fc.weight",
        "scale",
        "bn.moving_mean",
        "ema.fc.weight",
        "",
    ],
)
def test_layers_of_a_net_are_not_state(name):
    """A layer may be called `linear`; that alone makes it no copy of another parameter."""
    assert not is_optimizer_state(name, NET.__contains__)
