"""What the models of all tasks share: one pass of the encoder, asked for in two ways."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from oscar_core.encoder import Encoded, OscarEncoder, OscarPreTrained
from oscar_core.heads import WordHead
from oscar_core.hub_config import OscarHubConfig
from oscar_core.outputs import LogitsOutput
from oscar_core.packing import PackedBatch


def wanted(asked: bool | None, configured: bool | None) -> bool:
    """What a caller said, or else what the config says."""
    return bool(configured if asked is None else asked)


class OnEncoder(OscarPreTrained):
    """Anything that starts with one pass of the encoder."""

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__(config)
        self.encoder = OscarEncoder(config)

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another word embedding in its place."""
        self.encoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """The output projection where it is not the word embedding."""
        head = getattr(self, "word_head", None)
        return None if head is None else cast(nn.Module | None, head.decoder)

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Put another output projection in its place."""
        cast(WordHead, self.word_head).decoder = cast(nn.Linear, new_embeddings)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """As transformers does; the word head's biases follow, those of new words are 0."""
        resized = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        head = getattr(self, "word_head", None)
        if head is not None:
            missing = len(self.word_embedding) - len(head.bias)
            bias = functional.pad(head.bias.detach(), (0, missing))  # fewer words: cut
            head.bias = nn.Parameter(bias, requires_grad=head.bias.requires_grad)
        return resized

    @property
    def word_embedding(self) -> Tensor:
        """(V, H), row of a word by its id."""
        return self.encoder.embeddings.word_embeddings.weight

    def encode(self, batch: PackedBatch) -> Encoded:
        """Run the encoder over text and regions."""
        encoded: Encoded = self.encoder(
            batch.input_ids,
            batch.token_type_ids,
            batch.attention_mask,
            batch.region_features,
            batch.position_ids,
        )
        return encoded

    def encode_tensors(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        attention_mask: Tensor | None,
        region_features: Tensor | None,
        position_ids: Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
    ) -> Encoded:
        """Run the encoder for a caller who gave keyword tensors."""
        if input_ids is None:
            raise TypeError("a model needs a PackedBatch or input_ids")
        encoded: Encoded = self.encoder(
            input_ids,
            token_type_ids,
            attention_mask,
            region_features,
            position_ids,
            keep_attentions=wanted(output_attentions, self.config.output_attentions),
            keep_hidden_states=wanted(output_hidden_states, self.config.output_hidden_states),
        )
        return encoded

    def output(
        self, logits: Tensor, loss: Tensor | None, encoded: Encoded, return_dict: bool | None
    ) -> LogitsOutput | tuple[Any, ...]:
        """What goes back to a caller who gave keyword tensors."""
        output = LogitsOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.hidden_states or None,
            attentions=encoded.attentions or None,
        )
        return output if wanted(return_dict, self.config.return_dict) else output.to_tuple()
