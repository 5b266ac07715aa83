"""The comparison on series: arms, cells, results."""
