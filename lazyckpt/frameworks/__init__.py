"""Load values into nets of MindSpore and torch: matching rules, `load_param_into_net`."""
