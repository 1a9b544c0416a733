"""Local servers that record their requests: S3 (moto), and HTTP with and without ranges."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from typing import NamedTuple

from aiohttp import web
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Asked(NamedTuple):
    """A request, and the number of bytes sent in response."""

    method: str
    path: str
    range: str
    sent: int


class _Served:
    """A server from the standard library, running in a thread.

    Attributes:
        url: the URL of the server.
    """

    def __init__(self, server):
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._thread = threading.Thread(target=server.serve_forever)
        self._thread.start()

    def close(self):
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class S3(_Served):
    """The moto server, running in a thread.

    Attributes:
        url: the URL of the server.
        asked: the requests since the list was last cleared.
    """

    def __init__(self):
        self.asked = []
        self._turn = threading.Lock()
        app = self._counting(DomainDispatcherApplication(create_backend_app))
        super().__init__(make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet))

    def _counting(self, app):
        def counted(environ, start_response):
            length = 0

            def begin(status, headers, exc_info=None):
                nonlocal length
                length = int(dict(headers).get("Content-Length", 0))
                return start_response(status, headers, exc_info)

            with self._turn:  # moto keeps the whole object in memory for each response
                body = app(environ, begin)
            method = environ["REQUEST_METHOD"]
            sent = 0 if method == "HEAD" else length
            self.asked.append(Asked(method, environ["PATH_INFO"], environ.get("HTTP_RANGE", ""), sent))
            return body

        return counted


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        """Do not log."""


class Web:
    """The static file server of aiohttp, which supports ranges, running in a thread.

    Attributes:
        url: the URL of the server.
        asked: the requests since the list was last cleared.
    """

    def __init__(self, folder):
        self.asked = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(str(folder), ready))
        self._thread.start()
        ready.wait(20)

    def _serve(self, folder, ready):
        async def count(request, response):
            sent = 0 if request.method == "HEAD" else response.content_length or 0
            self.asked.append(Asked(request.method, request.path, request.headers.get("Range", ""), sent))

        async def begin():
            app = web.Application()
            app.on_response_prepare.append(count)
            app.router.add_static("/", folder)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            return runner

        runner = self._loop.run_until_complete(begin())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def close(self):
        """Stop the server."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class PlainWeb(_Served):
    """The file server of Python, which ignores ranges and sends whole files.

    Attributes:
        url: the URL of the server.
        sent: the number of bytes sent in bodies.
    """

    def __init__(self, folder):
        outer = self
        self.sent = 0

        class Handler(http.server.SimpleHTTPRequestHandler):
            def copyfile(self, source, outputfile):
                try:
                    while block := source.read(2**16):
                        outputfile.write(block)
                        outer.sent += len(block)
                except OSError:  # the client has disconnected
                    self.close_connection = True

            def log_message(self, *_):
                """Do not log."""

        handler = functools.partial(Handler, directory=str(folder))
        super().__init__(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
