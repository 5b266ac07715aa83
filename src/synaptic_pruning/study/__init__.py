"""A fair comparison as an experiment: arms, cells, runner, results, statistics, figures, report."""
