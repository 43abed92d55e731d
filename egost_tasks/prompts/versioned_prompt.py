"""What every prompt of the project has, whoever is asked by it: a name, a version, and a hash of its content."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, PositiveInt


class VersionedPrompt(BaseModel):
    """Wording kept as data. A subclass adds its templates; a field that it does not name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: PositiveInt

    @property
    def label(self) -> str:
        """Name and version as they are recorded, for example `direct-1`."""
        return f"{self.name}-{self.version}"

    @property
    def sha256(self) -> str:
        """Hash of the whole content, hexadecimal, which tells two prompts of one label apart."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
