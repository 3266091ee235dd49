"""Where a run's files live, request lines and the provider's raw files by relative keys: on a disk, or in an object store."""

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.artifacts.object_store import ObjectStoreArtifactStore

__all__ = ["ArtifactStore", "LocalArtifactStore", "ObjectStoreArtifactStore"]
