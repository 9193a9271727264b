// Rows of one kind of thing.
import type { ReactNode, Ref } from "react";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ReactNode;
  /** `main`, `number` or `nowrap`. */
  kind?: "main" | "number" | "nowrap";
}

interface TableProps<Row> {
  /** What the rows are, for those who do not see them. */
  name: string;
  columns: Column<Row>[];
  rows: Row[];
  rowKey: (row: Row) => string;
  /** What scrolls and can have the focus. */
  around?: Ref<HTMLDivElement>;
}

export function Table<Row>({ name, columns, rows, rowKey, around }: TableProps<Row>) {
  return (
    <div ref={around} className="table-wrap" tabIndex={0} role="group" aria-label={`${name}, scrollable`}>
      <table aria-label={name}>
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th key={column.head || at} scope="col" className={column.kind}>
                {column.head || <span className="only-read-aloud">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)}>
              {columns.map((column, at) => (
                <td key={column.head || at} className={column.kind}>
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
