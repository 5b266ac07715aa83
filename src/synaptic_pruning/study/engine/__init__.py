"""Run the cells of any study, each once; knows no task."""
