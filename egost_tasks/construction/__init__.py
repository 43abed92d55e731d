"""Builds a benchmark of this kind from first-person videos (paper, section 3.2 and figures 2 to 4).

The way in is `egost construct`, one command for each step:

    egost construct clips SPEC OUT            cut the videos into clips of one form (`cutting`)
    egost construct annotate OUT              annotate the routes on a page, or --import FILE (`annotation_page`)
    egost construct questions OUT             routes by template, choices by a writer (`questions`)
    egost construct calibrate OUT             drop broken questions, list doubtful ones (`calibration`)
    egost construct review OUT                decide on doubtful questions, then calibrate again (`review_page`)
    egost construct publish OUT RELEASE       the official layout, with a data card (`publication`)

Each step leaves its results in the working folder OUT:

    clips/NAME.mp4                   the clips: H.264, yuv420p, no sound
    clips.jsonl                      one `workfolder.ClipRow` a line, in the order of the list of clips
    lengths.png                      lengths and sources, as in figure 4
    annotations/ANNOTATOR/CLIP.json  one `annotations.Annotation` each
    questions.jsonl                  one `drafts.Draft` a line
    writing.json                     the writer, what was left out and why, what it cost
    replies/writer/, replies/judge/  paid replies of servers, which are not asked for again
    calibration.json                 the checks of single drafts and of the whole set
    dropped.jsonl                    drafts that cannot be published, with the reasons
    kept.jsonl                       drafts that passed, as they will be published
    review.jsonl                     drafts for a person to decide on: verdict null, `accept`, `edit` or `reject`

Every file appears whole or not at all. A step that was killed goes on where it stopped and ends with the same files. A
step reads only what earlier steps left, so each one can be run again alone.
"""
