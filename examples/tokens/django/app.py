"""A Django project in one file, for trying the view: python app.py 127.0.0.1:3000"""

import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "users.sqlite3"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["SESSION_SECRET"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()

from django.contrib.auth import login as log_in  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from views import roomlog_token  # noqa: E402


def login(request: HttpRequest) -> HttpResponse:
    """In place of your own login."""
    user, _ = User.objects.get_or_create(username=request.GET["user"])
    log_in(request, user)
    return HttpResponse(status=204)


urlpatterns = [path("login", login), path("roomlog-token", roomlog_token)]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("runserver", sys.argv[1], use_reloader=False)
