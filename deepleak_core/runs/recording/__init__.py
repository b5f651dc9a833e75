"""Recordings: runs that are played again without computing, and the archives that keep them.

`recorded` makes a `RecordedRun` of the events of a run. A `Recording` is a short sequence of runs that belong together;
`save` makes one zip archive of it, and `load` reads an archive from anywhere. `gallery` lists those that come with the
app.

This package imports neither PyTorch nor the run store.
"""

from deepleak_core.runs.recording.files import load as load
from deepleak_core.runs.recording.files import save as save
from deepleak_core.runs.recording.kept import MOST_RUNS as MOST_RUNS
from deepleak_core.runs.recording.kept import SHOWN as SHOWN
from deepleak_core.runs.recording.kept import Name as Name
from deepleak_core.runs.recording.kept import Page as Page
from deepleak_core.runs.recording.kept import RecordedFrame as RecordedFrame
from deepleak_core.runs.recording.kept import RecordedRun as RecordedRun
from deepleak_core.runs.recording.kept import Recording as Recording
from deepleak_core.runs.recording.kept import Sentence as Sentence
from deepleak_core.runs.recording.kept import Title as Title
from deepleak_core.runs.recording.listing import GALLERY as GALLERY
from deepleak_core.runs.recording.listing import Head as Head
from deepleak_core.runs.recording.listing import gallery as gallery
from deepleak_core.runs.recording.listing import gallery_recording as gallery_recording
from deepleak_core.runs.recording.making import evenly as evenly
from deepleak_core.runs.recording.making import recorded as recorded
from deepleak_core.runs.recording.making import recorded_from as recorded_from
from deepleak_core.runs.recording.making import single as single
from deepleak_core.runs.recording.strips import split as split
