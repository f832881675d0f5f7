"""Describes images by greedy or beam search."""

from oscar_core.generation import GenerationSettings, generate
from oscar_core.metrics.chinese import close_gaps
from oscar_core.models import CaptionModel
from oscar_core.task import Knowledge
from oscar_core.tasks.captioning.collate import Batch
from oscar_core.tasks.captioning.records import CHINESE, Config, Prediction


def predict(
    config: Config, knowledge: Knowledge, model: CaptionModel, batch: Batch
) -> list[Prediction]:
    """One caption an image; blanks between Chinese characters are closed."""
    settings = GenerationSettings(num_beams=config.num_beams, length_penalty=config.length_penalty)
    found = generate(
        model,
        batch.captions,
        knowledge.tokenizer,
        settings,
        compat=config.generation_compat,
    )
    texts = [row[0] for row in found.texts(knowledge.tokenizer)]
    if config.language == CHINESE:
        texts = [close_gaps(text) for text in texts]
    return [
        Prediction(image_id=image_id, caption=text, log_probability=round(float(score), 5))
        for image_id, text, score in zip(
            batch.image_ids, texts, found.log_probabilities[:, 0], strict=True
        )
    ]
