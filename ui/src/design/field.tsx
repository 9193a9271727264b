// What is typed into and chosen from, each with its label, help and error.
import { type InputHTMLAttributes, type ReactNode, type SelectHTMLAttributes, type TextareaHTMLAttributes, useId } from "react";

interface Around {
  label: string;
  help?: ReactNode;
  wrong?: string | undefined;
  wide?: boolean;
  required?: boolean | undefined;
}

function useField({ label, help, wrong, wide, required }: Around) {
  const id = useId();
  const described = [help && `${id}-help`, wrong && `${id}-wrong`].filter(Boolean).join(" ") || undefined;
  const around = (control: ReactNode) => (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id} className={required ? "needed" : undefined}>
        {label}
      </label>
      {control}
      {help && (
        <span id={`${id}-help`} className="help">
          {help}
        </span>
      )}
      {wrong && (
        <span id={`${id}-wrong`} className="wrong" role="alert">
          {wrong}
        </span>
      )}
    </div>
  );
  return { around, control: { id, required, "aria-describedby": described, "aria-invalid": wrong ? true : undefined } as const };
}

export function TextField({ label, help, wrong, wide, required, ...rest }: Around & InputHTMLAttributes<HTMLInputElement>) {
  const { around, control } = useField({ label, help, wrong, wide, required });
  return around(<input {...control} spellCheck={false} {...rest} />);
}

export function TextArea({ label, help, wrong, wide, required, ...rest }: Around & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const { around, control } = useField({ label, help, wrong, wide, required });
  return around(<textarea {...control} {...rest} />);
}

/** A secret of several lines, hidden as a password is: a single line would make spaces of its line breaks. */
export function SecretArea(props: Around & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  return <TextArea spellCheck={false} autoComplete="off" autoCapitalize="off" {...props} className="secret" />;
}

export function Select({ label, help, wrong, wide, required, ...rest }: Around & SelectHTMLAttributes<HTMLSelectElement>) {
  const { around, control } = useField({ label, help, wrong, wide, required });
  return around(<select {...control} {...rest} />);
}
