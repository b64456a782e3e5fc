import unittest

from tally import budget
from tally.entry import make

ENTRIES = [make("2026-03-05", 300, "food"), make("2026-03-06", 900, "fun")]


class Exceeded(unittest.TestCase):
    def test_it_says_by_how_much(self):
        self.assertEqual(budget.exceeded(ENTRIES, {"fun": 500}), {"fun": 400})

    def test_exactly_the_limit_is_allowed(self):
        self.assertEqual(budget.exceeded(ENTRIES, {"food": 300}), {})

    def test_nothing_spent_is_fine(self):
        self.assertEqual(budget.exceeded(ENTRIES, {"travel": 100}), {})
