# python3 -m unittest
import unittest

from app import configured, tags


class Tags(unittest.TestCase):
    def test_each_section_is_a_tag(self):
        self.assertEqual(tags("/news/sport/7", 2), ["section:news", "section:news/sport"])
        self.assertEqual(tags("/news/sport/", 1), ["section:news"])
        self.assertEqual(tags("/7", 2), [])
        self.assertEqual(tags("//news//7", 2), ["section:news"])

    def test_mistakes_name_the_field(self):
        self.assertEqual(configured("{}"), 2)
        for config, field in [('{"depht": 2}', "depht"), ('{"depth": 0}', "depth"), ('{"depth": true}', "depth")]:
            with self.assertRaisesRegex(ValueError, field):
                configured(config)


if __name__ == "__main__":
    unittest.main()
