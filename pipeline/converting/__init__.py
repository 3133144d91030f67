"""The parts of convert: timeline, segments, smoothing, drawing and composing."""
