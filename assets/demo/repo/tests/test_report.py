import unittest

from tally import report
from tally.entry import make

ENTRIES = [
    make("2026-03-05", 300, "food"),
    make("2026-02-01", 600, "rent"),
    make("2026-03-09", 100, "food"),
]


class Report(unittest.TestCase):
    def test_categories_come_dearest_first(self):
        self.assertEqual(list(report.by_category(ENTRIES)), ["rent", "food"])

    def test_months_come_earliest_first(self):
        self.assertEqual(report.by_month(ENTRIES), {"2026-02": 600, "2026-03": 400})

    def test_shares_are_percent(self):
        self.assertEqual(report.shares(ENTRIES), {"rent": 60, "food": 40})

    def test_nothing_has_no_shares(self):
        self.assertEqual(report.shares([]), {})

    def test_shares_of_refunds_alone_are_zero(self):
        refund = [make("2026-03-01", 100, "food"), make("2026-03-02", -100, "food")]
        self.assertEqual(report.shares(refund), {"food": 0})
