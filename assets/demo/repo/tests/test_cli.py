import io
import os
import tempfile
import unittest

from tally import cli

LINES = "2026-02-01,6.00,rent,\n2026-03-05,4.00,food,bread\n"


class Main(unittest.TestCase):
    def run_on(self, text, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "entries.csv")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            out = io.StringIO()
            code = cli.main([path] + list(options), out)
        return code, out.getvalue()

    def test_totals_by_category(self):
        code, text = self.run_on(LINES)
        self.assertEqual(code, 0)
        self.assertEqual(text.split(), ["rent", "6.00", "food", "4.00"])

    def test_totals_by_month(self):
        _, text = self.run_on(LINES, "--by", "month")
        self.assertEqual(text.split(), ["2026-02", "6.00", "2026-03", "4.00"])

    def test_a_missing_file_is_an_error_code(self):
        self.assertEqual(cli.main(["/nowhere/entries.csv"], io.StringIO()), 1)
