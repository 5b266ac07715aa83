"""The report on series: verdict, tables, evidence, panels, page."""
