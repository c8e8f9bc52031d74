"""A Flask app that publishes. gunicorn loads it once, and forks its workers, which share nothing but the unused client."""

import os

from flask import Flask, Response, jsonify, request

from roomlog.sync import Roomlog

client = Roomlog(os.environ["ROOMLOG_URL"], token=os.environ["ROOMLOG_TOKEN"])

app = Flask(__name__)


@app.post("/rooms/<name>")
def publish(name: str) -> Response:
    id = client.room(name).publish(request.get_json(), timeout=30)
    return jsonify(id=id, worker=os.getpid())
