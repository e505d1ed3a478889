"""What every notebook starts from: `from minilip.course import *`, then `device = setup("07_clip")`."""

from minilip.course.exercises import check, hint, progress
from minilip.course.session import budget, quick, setup
from minilip.course.showing import CLAIMS as CLAIMS
from minilip.course.showing import UNTESTABLE, claim, same, show
from minilip.course.showing import emit as emit

__all__ = ["UNTESTABLE", "budget", "check", "claim", "hint", "progress", "quick", "same", "setup", "show"]
