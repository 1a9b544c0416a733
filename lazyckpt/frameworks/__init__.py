"""Loading into nets of MindSpore and torch. Each framework is imported only when one of its functions is called."""
