"""ProtoCLIP: prototypes above instances. The method, its k-means, and the episodes it is trained in."""

from minilip.protoclip.clustering import group_means, kmeans
from minilip.protoclip.episodes import Episodes
from minilip.protoclip.model import ProtoCLIP, back_translate, prototype_loss, soft_targets

__all__ = ["Episodes", "ProtoCLIP", "back_translate", "group_means", "kmeans", "prototype_loss", "soft_targets"]
