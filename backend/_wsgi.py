"""Entry points: `app` for gunicorn, and a script for `label-studio-ml start backend`."""

import os

from clipdiy.threads import prepare_threads

prepare_threads(os.environ)  # before torch is imported, which everything below does

if __name__ == "__main__":
    from backend.web.standalone import main

    main()
else:
    from backend.service import build_service
    from backend.web.app import create_app
    from backend.web.start import start

    app = start(build_service, create_app)
