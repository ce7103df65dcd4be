"""One device as one synchronous object: admission, guard, rules, applications and answers of a turn."""
