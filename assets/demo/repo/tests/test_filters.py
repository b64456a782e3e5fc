import unittest
from datetime import date

from tally import filters
from tally.entry import make


class Between(unittest.TestCase):
    def setUp(self):
        self.entries = [make("2026-03-0%d" % day, 100, "food") for day in (1, 2, 3)]

    def test_the_first_day_belongs_to_it(self):
        found = filters.between(self.entries, date(2026, 3, 1), date(2026, 3, 2))
        self.assertIn(self.entries[0], found)

    def test_the_last_day_belongs_to_it(self):
        found = filters.between(self.entries, date(2026, 3, 1), date(2026, 3, 3))
        self.assertEqual(len(found), 3)


class OfCategory(unittest.TestCase):
    def test_case_does_not_matter(self):
        self.assertEqual(len(filters.of_category([make("2026-03-01", 1, "Food")], "food")), 1)
