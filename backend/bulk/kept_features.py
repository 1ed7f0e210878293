"""Features kept beside the shards: other labels over the same pictures need neither files nor networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from backend.bulk.places import Stores, join
from backend.bulk.rows import Row
from backend.bulk.shards import Chunk, encoded, open_table
from backend.errors import BackendError
from clipdiy.errors import FeaturesError
from clipdiy.method import Features, read_features

_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.string()),
        pa.field("failure", pa.string()),
        pa.field("message", pa.string()),
        pa.field("features", pa.binary()),
    ]
)


@dataclass(frozen=True)
class KnownPicture:
    """A picture that was encoded, or could not be.

    Attributes:
        source: Its name.
        digest: SHA-256 of its file.
        features: `None` if it failed.
        failure: Why.
        message: What may be shown of that.
    """

    source: str
    digest: str | None
    features: Features | None
    failure: str | None = None
    message: str | None = None


class KeptFeatures:
    """The features of one encoder in one place. Can be sent to other processes."""

    def __init__(self, stores: Stores, place: str, encoder: str) -> None:
        """Look at nothing yet.

        Args:
            stores: Opens the place.
            place: Beside the shards.
            encoder: `Method.encoder_identity`: features of another mean something else.
        """
        self._stores = stores
        self._encoder = encoder
        self.folder = join(place, f"features-{encoder}")

    def write(self, name: str, rows: Sequence[Row], features: Mapping[int, bytes]) -> None:
        """Write the features of a shard's pictures.

        Args:
            name: Of the shard.
            rows: What became of its pictures.
            features: As bytes, by place in `rows`.

        Raises:
            BackendError: If they cannot be written.
        """
        fields = [
            {
                "source": row.source,
                "digest": row.digest,
                "failure": row.failure,
                "message": row.message,
                "features": features.get(place),
            }
            for place, row in enumerate(rows)
        ]
        self._stores.write(self._file(name), encoded(pa.Table.from_pylist(fields, schema=_SCHEMA)))

    def read(self, name: str) -> list[KnownPicture] | None:
        """Return the pictures of a shard, in its order; `None` if they are not kept, or damaged."""
        try:
            with open_table(self._stores, self._file(name)) as table:
                rows = table.read().to_pylist()
            known = [
                KnownPicture(
                    row["source"],
                    row["digest"],
                    None if row["features"] is None else read_features(row["features"]),
                    row["failure"],
                    row["message"],
                )
                for row in rows
            ]
        except (BackendError, FeaturesError, KeyError):
            return None
        is_ours = all(one.features is None or one.features.made_by == self._encoder for one in known)
        # What failed may succeed the next time, which only the files can tell.
        return known if is_ours and any(one.features is not None for one in known) else None

    def chunks(self) -> list[Chunk]:
        """Return which pictures are kept together, so that shards of other labels can be made of the same ones.

        What cannot be read is left out: it is made again.
        """
        found = []
        for name in sorted(self._stores.files(self.folder)):
            _, begins, rest = name.rpartition("/part-")
            if not begins or not rest.endswith(".parquet"):
                continue
            try:
                with open_table(self._stores, name) as table:
                    sources = table.read(columns=["source"]).column(0).to_pylist()
            except (BackendError, KeyError):
                continue
            found.append(Chunk(rest.removesuffix(".parquet"), tuple(sources)))
        return found

    def _file(self, name: str) -> str:
        return join(self.folder, f"part-{name}.parquet")
