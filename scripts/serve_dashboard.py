"""Show a database in optuna-dashboard: `python scripts/serve_dashboard.py sqlite:///nas.db`."""

import sys
from wsgiref.simple_server import make_server

from nas_optuna.report.dashboard import application
from nas_optuna.storage.reading import open_to_read

url = sys.argv[1] if len(sys.argv) > 1 else "sqlite:///nas.db"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
# Any WSGI server will do. It has no log-in, so it listens on this machine alone.
with make_server("127.0.0.1", port, application(open_to_read(url))) as server:
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
