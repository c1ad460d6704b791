"""The .maez file: a volume in few bytes, exactly as promised, with its place in the patient."""
