"""Who is told of a run, and what a session looks like to those who watch many.

    tracking.py          metrics and rollouts to everybody whom `tracking:` names; start here
    courier.py           how: a queue, a thread and a process that can be killed; nothing of it reaches the run
    process.py, receiver.py   both ends of the pipe in between
    trackers.py          TensorBoard, W&B, MLflow and so on, by accelerate's names
    session_record.py    one flat record a session, versioned
    genai.py             OpenTelemetry's names for its fields, and nowhere else
    spans.py, otlp.py    the record as spans, and spans to a collector
    recorded_context.py, exporting.py   the same for runs that are over
    content.py, shared_config.py   what of it may leave the house

May import: floors 0-4; of the run, only what it wrote. accelerate and OpenTelemetry are loaded in those processes.
"""
