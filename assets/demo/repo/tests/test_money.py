import unittest

from tally import money


class Parse(unittest.TestCase):
    def test_whole_amounts(self):
        self.assertEqual(money.parse("7"), 700)

    def test_cents(self):
        self.assertEqual(money.parse("12.50"), 1250)

    def test_one_digit_of_cents(self):
        self.assertEqual(money.parse("12.5"), 1250)

    def test_thousands(self):
        self.assertEqual(money.parse("1,234.50"), 123450)


class Show(unittest.TestCase):
    def test_negative_amounts(self):
        self.assertEqual(money.show(-305), "-3.05")
