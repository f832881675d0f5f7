"""Importing this module makes our models known to transformers' Auto classes.

```python
import oscar_core.hub
from transformers import AutoModelForPreTraining

model = AutoModelForPreTraining.from_pretrained("folder")
```
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
)

from oscar_core.encoder import OscarEncoder
from oscar_core.hub_config import MODEL_TYPE, OscarHubConfig
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)

AutoConfig.register(MODEL_TYPE, OscarHubConfig, exist_ok=True)
AutoModel.register(OscarHubConfig, OscarEncoder, exist_ok=True)
AutoModelForPreTraining.register(OscarHubConfig, PretrainingModel, exist_ok=True)
AutoModelForMaskedLM.register(OscarHubConfig, CaptionModel, exist_ok=True)
AutoModelForSequenceClassification.register(OscarHubConfig, ClassifierModel, exist_ok=True)
AutoModelForVisualQuestionAnswering.register(OscarHubConfig, ClassifierModel, exist_ok=True)
# which of the two is decided by the class that was saved; without one, the first
AutoModelForMultipleChoice.register(OscarHubConfig, (PairModel, ChoiceModel), exist_ok=True)
