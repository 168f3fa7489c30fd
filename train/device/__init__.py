"""The device training runs on, the ranks it shares, and the signals that stop it."""
