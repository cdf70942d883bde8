"""A horizontal bar chart as SVG text."""
from html import escape

LINE, BAR, LEFT, WIDTH, RIGHT, TOP = 20, 12, 300, 420, 150, 40
STYLE = """text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}.bar{fill:#3b78b5}
.low{fill:#c8643c}.tick{stroke:#111;stroke-width:2}.unit{stroke:#999;stroke-dasharray:3 3}
@media(prefers-color-scheme:dark){text{fill:#ddd}.tick{stroke:#fff}}"""


def bars_svg(title, rows, unit_line):
    """`rows`: (name, value, label, tick or None). A dashed line marks `unit_line`; a bar under its tick is coloured."""
    most = max([value for _, value, _, _ in rows] + [tick or 0 for *_, tick in rows] + [unit_line]) * 1.05
    height = TOP + LINE * len(rows) + 10

    def x(value):
        return LEFT + WIDTH * value / most

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" role="img">',
           f"<title>{escape(title)}</title><style>{STYLE}</style>",
           f'<text class="title" x="10" y="22">{escape(title)}</text>',
           f'<line class="unit" x1="{x(unit_line):.1f}" x2="{x(unit_line):.1f}" y1="{TOP - 4}" y2="{height - 8}"/>']
    for i, (name, value, label, tick) in enumerate(rows):
        y = TOP + LINE * i
        kind = "low" if tick and value < tick else "bar"
        out += [f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{kind}" x="{LEFT}" y="{y + 1}" width="{max(0.0, x(value) - LEFT):.1f}" height="{BAR}"/>']
        if tick:
            out.append(f'<line class="tick" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y - 1}" y2="{y + BAR + 3}"/>')
        out.append(f'<text x="{x(max(value, tick or 0)) + 6:.1f}" y="{y + 11}">{escape(label)}</text>')
    return "\n".join(out) + "\n</svg>\n"
