import unittest

from tally import entry


class Make(unittest.TestCase):
    def test_the_day_is_read(self):
        self.assertEqual(entry.make("2026-03-01", 100, "food").day.month, 3)

    def test_equal_entries_are_equal(self):
        one = entry.make("2026-03-01", 100, "food")
        self.assertEqual(one, entry.make("2026-03-01", 100, "food"))

    def test_a_category_is_needed(self):
        with self.assertRaises(ValueError):
            entry.make("2026-03-01", 100, " ")
