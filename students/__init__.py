"""Those who learn: a file is one compact model, how it starts and how it embeds."""

from students.encoder import Encoder
from students.exported import Exported
from students.projected import Projected
from students.static import Static

__all__ = ["Encoder", "Exported", "Projected", "Static"]
