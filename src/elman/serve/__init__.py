"""Models behind a port: `elman serve RUN...` (docs/serving.md).

    settings.py     the flags                             starting.py     the port, and a process for each core
    process.py      one process: uvicorn, and its end     protocols.py    connections that are cut off
    application.py  what stands before each request       metrics.py      /metrics, over all processes
    requests.py     HTTP: whole requests                  streams.py      WebSockets: sessions
    page.html       to try the models in a browser        states.py       the state of a session as bytes
    models.py       what a model can be asked
    batcher.py      streams stepped together, no web      works.py        what a session is asked for
    whole.py        whole inputs answered together

Runs on `elman.runtime`: a frozen file is served without torch.
"""
