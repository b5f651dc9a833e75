"""The player: columns of pictures, one clock, one timeline. A run while it goes on, at its end, or replayed.

`play` draws it, from `Still` pictures, `Track`s of runs and `Note`s. What many sessions show is made once
by `drawing`, and drawn for each by `show`.
"""

from ui.player.component import ABOVE as ABOVE
from ui.player.component import Drawing as Drawing
from ui.player.component import drawing as drawing
from ui.player.component import play as play
from ui.player.component import show as show
from ui.player.parts import Click as Click
from ui.player.parts import Column as Column
from ui.player.parts import LiveFrame as LiveFrame
from ui.player.parts import Note as Note
from ui.player.parts import Still as Still
from ui.player.parts import Track as Track
from ui.player.strips import strip as strip
