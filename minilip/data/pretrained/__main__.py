"""Fetch and compute everything pretrained that the lessons use."""

from minilip.data.fetch import MissingData
from minilip.data.pretrained import emoji_features, label_embeddings

if __name__ == "__main__":
    try:
        for name, x in (("pictures", emoji_features()), ("labels", label_embeddings())):
            print(f"{name}: {tuple(x.shape)}")
    except MissingData as error:
        raise SystemExit(str(error)) from None
