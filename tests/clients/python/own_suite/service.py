"""Stands in for kafka-python's test/service.py, which its source distribution leaves out.

The fixtures derive from these two classes. With KAFKA_URI set only the external one is used: a
broker that somebody else started and will stop.
"""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass


class SpawnedService:
    def __init__(self, *_args, **_settings):
        raise RuntimeError("these tests run against an external broker only")
