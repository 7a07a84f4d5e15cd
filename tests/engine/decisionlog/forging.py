"""What somebody who may write the files could do to a log, with every checksum put right."""

from engine.decisionlog.chain import CHAIN_BYTES, first_link, seal, unseal
from engine.decisionlog.frame import HEADER_BYTES, Header, pack_frame, pack_header, unpack_header
from engine.decisionlog.reading import find_segment, stored_frames
from engine.decisionlog.segment import segment_path


def contents(directory, segment_id=1):
    """What the frames of a segment carry, in order."""
    return [frame.content for frame in stored_frames(find_segment(directory, segment_id))]


def offsets(directory, segment_id=1):
    """Where the frames of a segment begin."""
    return [frame.offset for frame in stored_frames(find_segment(directory, segment_id))]


def rewrite(directory, given, segment_id=1):
    """Writes a segment anew with these contents in its frames; checksums fit, links stay as given."""
    path = segment_path(directory, segment_id)
    data = path.read_bytes()[:HEADER_BYTES]
    for content in given:
        data += pack_frame(content, segment_id=segment_id, offset=len(data))
    path.write_bytes(data)


def relink(directory, bodies, segment_id=1):
    """Writes a segment anew with these records and a chain that fits: only a checkpoint can tell."""
    path = segment_path(directory, segment_id)
    data = path.read_bytes()[:HEADER_BYTES]
    link = first_link(data)
    for body in bodies:
        content, link = seal(body, before=link, segment_id=segment_id, offset=len(data))
        data += pack_frame(content, segment_id=segment_id, offset=len(data))
    path.write_bytes(data)


def add(directory, body, segment_id=1):
    """Appends a record that fits the chain."""
    path = segment_path(directory, segment_id)
    data = path.read_bytes()
    last = list(stored_frames(find_segment(directory, segment_id)))[-1]
    content, _ = seal(body, before=last.chained.link, segment_id=segment_id, offset=len(data))
    path.write_bytes(data + pack_frame(content, segment_id=segment_id, offset=len(data)))


def with_body(content, body):
    """The content of a frame with another record, link, commitment and salt as they were."""
    return content[:CHAIN_BYTES] + body


def with_new_commitment(content, body):
    """The content of a frame with another record and a commitment that fits it; the link stays."""
    fresh, _ = seal(body, before=bytes(32), segment_id=0, offset=0)
    return content[:32] + fresh[32:]


def as_first_format(directory, segment_id=1):
    """Turns a segment into one that an engine without chains wrote."""
    path = segment_path(directory, segment_id)
    bodies = [unseal(content).body for content in contents(directory, segment_id)]
    header = unpack_header(path.read_bytes())
    data = pack_header(Header(segment_id, header.created_ms, format=1))
    for body in bodies:
        data += pack_frame(body, segment_id=segment_id, offset=len(data))
    path.write_bytes(data)
