"""A FastAPI app that signs tokens for its users."""

import os

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.middleware.sessions import SessionMiddleware

from roomlog.server import sign_token

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key=os.environ["SESSION_SECRET"])


@app.post("/login", status_code=204)
def login(request: Request, user: str) -> None:
    """In place of your own login."""
    request.session["user"] = user


@app.get("/roomlog-token")
def roomlog_token(request: Request, response: Response) -> dict[str, str]:
    user = request.session.get("user")
    if user is None:
        raise HTTPException(401)
    token = sign_token(
        secret=os.environ["ROOMLOG_AUTH__HS256_SECRET"],
        user=user,
        rooms={"chat.*": ["read", "write"], f"user.{user}.*": ["read"]},
        expires_in=15 * 60,
    )
    response.headers["Cache-Control"] = "no-store"
    return {"token": token}
