"""A Celery app whose tasks publish, in processes that Celery forks."""

import os

from celery import Celery

from roomlog.sync import Roomlog

client = Roomlog(os.environ["ROOMLOG_URL"], token=os.environ["ROOMLOG_TOKEN"])

folder = os.environ["QUEUE"]
app = Celery(broker="filesystem://", task_ignore_result=True)
app.conf.broker_transport_options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": f"{folder}/control"}


@app.task(name="publish")
def publish(room: str, number: int) -> None:
    client.room(room).publish({"number": number, "worker": os.getpid()}, timeout=30)
