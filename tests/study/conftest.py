from collections import defaultdict

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without their pictures, which take most of the time; for tests of tables and sentences."""
    monkeypatch.setattr("synaptic_pruning.study.forecasting.report.page.draw_panels", lambda *_: defaultdict(list))
