"""Everything that the world model can be told."""

from __future__ import annotations

import dataclasses
from typing import Literal

from common.checks import AT, NonNegative, Options, Share, Whole, refuse
from common.dynamics.kl import KLConfig
from common.dynamics.rssm import RSSMConfig
from common.dynamics.s5 import S5Config
from common.dynamics.transformer import TransformerConfig
from common.model.vectors import VectorTransform
from common.nets.coders import DecoderConfig, EncoderConfig
from common.nets.heads import HeadConfig
from common.nets.precision import Precision


@dataclasses.dataclass(frozen=True)
class WorldModelConfig(Options):
    """Everything that the world model can be told.

    Attributes:
        dynamics: Latent dynamics: "rssm", "transformer" or "s5".
        rssm: The recurrent state-space model.
        transformer: The transformer dynamics.
        s5: The state space dynamics.
        encoder: From observations to embeddings.
        decoder: From latent states to observations.
        reward: The reward head.
        discount: The discount head.
        kl: The KL term.
        predict_cost: Whether there is a cost head, of the reward head's size and kind, for costs
            that rows hold; runs have one where their environments count a cost.
        predict_discount: Whether there is a discount head; without one every state is
            taken to continue with the constant discount factor.
        discount_factor: Discount factor of one agent step, γ.
        discount_repeat: Action repeat that discount_factor is meant for: a run with another one
            takes γ to the power of their ratio, so that as many seconds count. 0 for γ as it
            stands.
        soft_discount: Whether the discount head learns γ (1 - is_terminal); otherwise it learns
            1 - is_terminal, and what it predicts is multiplied by γ.
        decoder_scale: Weight of the terms of observations.
        reward_scale: Weight of the reward term, c_r.
        discount_scale: Weight of the discount term, c_d.
        cost_scale: Weight of the cost term.
        reward_transform: What is applied to rewards before they are learned:
            "identity", or "tanh" as in DreamerV2's Atari runs.
        vector_transform: What is applied to vectors before they are encoded and predicted:
            "identity"; "symlog" = sign(x) ln(1 + |x|) for quantities that grow without
            bound, as in DreamerV3 (arXiv:2301.04104); or "standard" = (x - mean) / deviation
            of what was learned from so far, for quantities of different magnitude.
        decoder_gradients: Whether the reconstruction shapes the latent states.
        reward_gradients: Whether the reward head shapes the latent states.
        discount_gradients: Whether the discount head shapes the latent states.
        precision: Number format of the arithmetic, that of an agent's other networks too:
            "float32"; "bfloat16", with which a CPU is slower; "auto", which is float32 on a CPU
            and bfloat16 elsewhere (V3); or "bfloat16_products", which rounds only what dense
            layers and convolutions multiply, for CPUs that multiply bfloat16 faster. Weights,
            losses, distributions and statistics stay in float32.
    """

    dynamics: Literal["rssm", "transformer", "s5"] = "rssm"
    rssm: RSSMConfig = RSSMConfig()
    transformer: TransformerConfig = TransformerConfig()
    s5: S5Config = S5Config()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    reward: HeadConfig = HeadConfig()
    discount: HeadConfig = HeadConfig()
    kl: KLConfig = KLConfig()
    predict_cost: bool = False
    predict_discount: bool = True
    discount_factor: Share = 0.99
    discount_repeat: Whole = 0
    soft_discount: bool = True
    decoder_scale: NonNegative = 1.0
    reward_scale: NonNegative = 1.0
    discount_scale: NonNegative = 1.0
    cost_scale: NonNegative = 1.0
    reward_transform: Literal["identity", "tanh"] = "identity"
    vector_transform: VectorTransform = "identity"
    decoder_gradients: bool = True
    reward_gradients: bool = True
    discount_gradients: bool = True
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Raises an OptionError where a value is none that its option can have."""
        super().__post_init__()
        if self.discount.likelihood not in ("auto", "bernoulli"):
            found = f"is {self.discount.likelihood}, whose mean may leave 0 to 1"
            refuse(self, f"{AT}discount.likelihood {found}; expected auto or bernoulli")

    def remarks(self, platform: str) -> list[str]:
        """What to warn of where it learns on a platform, such as "cpu"; a line each."""
        found = [f"world_model.kl.{line}" for line in self.kl.remarks()]
        if platform == "cpu" and self.precision == "bfloat16":
            found.append(
                "bfloat16 is slower than float32 on a CPU; for one that multiplies bfloat16 faster "
                "there is --precision bfloat16_products"
            )
        return found

    def with_cost(self, counted: bool) -> WorldModelConfig:
        """Returns it with a cost head where costs are counted."""
        return dataclasses.replace(self, predict_cost=True) if counted else self

    def at_repeat(self, repeat: int) -> WorldModelConfig:
        """Returns it for an action repeat: γ^(repeat / discount_repeat), where one is named.

        Args:
            repeat: Simulator steps per action.
        """
        if not self.discount_repeat:
            return self
        factor = self.discount_factor ** (repeat / self.discount_repeat)
        return dataclasses.replace(self, discount_factor=factor, discount_repeat=repeat)
