"""Steps of the optimizers: finite ones, several parts, groups, precision, scaling."""
