#!/usr/bin/env python
"""Django's command line: `python manage.py prepare` makes the database, its users and the static files."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_under_test.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
