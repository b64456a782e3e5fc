import os
import tempfile
import unittest

from tally import store
from tally.entry import make


class Store(unittest.TestCase):
    def there_and_back(self, note):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "entries.csv")
            store.save([make("2026-03-01", 250, "food", note)], path)
            return store.load(path)[0].note

    def test_plain_notes_survive(self):
        self.assertEqual(self.there_and_back("bread"), "bread")

    def test_commas_survive(self):
        self.assertEqual(self.there_and_back("bread, butter"), "bread, butter")

    def test_quotes_survive(self):
        self.assertEqual(self.there_and_back('a "good" one, really'), 'a "good" one, really')
