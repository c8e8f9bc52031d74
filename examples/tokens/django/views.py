"""A view that signs a token for the user who is logged in."""

import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from roomlog.server import sign_token


@never_cache
def roomlog_token(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    user = request.user.get_username()
    token = sign_token(
        secret=os.environ["ROOMLOG_AUTH__HS256_SECRET"],
        user=user,
        rooms={"chat.*": ["read", "write"], f"user.{user}.*": ["read"]},
        expires_in=15 * 60,
    )
    return JsonResponse({"token": token})
