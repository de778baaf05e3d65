"""Makes everything that the site needs to run: tables, static files, three people, one post."""

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand

from board.models import Post

PASSWORD = "correct horse"


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args, **options):
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        alice = User.objects.create_user("alice", password=PASSWORD)
        User.objects.create_user("bob", password=PASSWORD)
        User.objects.create_superuser("root", password=PASSWORD)
        Post.objects.create(title="The first post", text="Written before anybody came.", author=alice)
