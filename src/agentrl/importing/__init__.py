"""Jobs of hosted reinforcement fine-tuning, carried over to a config of ours.

Read `openai.py`, the whole way; `job.py` reads the JSON, `secrets.py` keeps credentials out of files, `settings.py`
says what every hyperparameter comes to here, `graders.py` takes hosted graders and nothing else, `datasets.py` looks at
the data, `account.py` says what is left to know, `yaml_text.py` writes what people read.
May import: floors 0-2.
"""

from __future__ import annotations

from agentrl.importing.job import Job, read_job
from agentrl.importing.openai import Imported, import_job

__all__ = ["Imported", "Job", "import_job", "read_job"]
