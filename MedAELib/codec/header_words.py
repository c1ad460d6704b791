"""What the headers of .maez files have in common: the dictionaries with which those of versions 5 and 6 are deflated.

They are part of the format (docs/maez.md) and never change; a file that names other models has a longer header.
"""

from __future__ import annotations

COMMON = "".join(
    (
        '{"ITK_FileNotes":"","ITK_sform_corrected":"NO","aux_file":"","bitpix":"16","cal_max":"0","cal_min":"0","',
        'datatype":"4","descrip":"","dim[0]":"3","dim[1]":"512","dim[2]":"512","dim[3]":"1","dim[4]":"1","dim[5]"',
        ':"1","dim[6]":"1","dim[7]":"1","dim_info":"0","intent_code":"0","intent_name":"","intent_p1":"0","intent',
        '_p2":"0","intent_p3":"0","nifti_type":"1","pixdim[0]":"0","pixdim[1]":"1","pixdim[2]":"1","pixdim[3]":"1',
        '","pixdim[4]":"0","pixdim[5]":"0","pixdim[6]":"0","pixdim[7]":"0","qfac":"[UNKNOWN_PRINT_CHARACTERISTICS',
        ']\\n","qform_code":"1","qform_code_name":"NIFTI_XFORM_SCANNER_ANAT","qoffset_x":"-0","qoffset_y":"-0","qo',
        'ffset_z":"-0","qto_xyz":"[UNKNOWN_PRINT_CHARACTERISTICS]\\n","quatern_b":"0","quatern_c":"0","quatern_d":',
        '"0","scl_inter":"0","scl_slope":"1","sform_code":"1","sform_code_name":"NIFTI_XFORM_SCANNER_ANAT","slice',
        '_code":"0","slice_duration":"0","slice_end":"0","slice_start":"0","srow_x":"-1 0 0 -0","srow_y":"0 -',
        '1 0 -0","srow_z":"0 0 1 -0","toffset":"0","vox_offset":"352","xyzt_units":"10"},"uint8""uint16""float32"',
        '"front":"tuning":"inside":[0,"order":"front","how":{"kind":"grid","start":0.0,"step":1.0,"divisor":1.0}"',
        'figures":{"psnr":40.0,"ssim":0.9,"max_error":0},"display":{"window":0,"level":0}"modality":"MR""mode":{"',
        'kind":"ratio","times":10.0}"waves":{"name":"ct-mr-codec-subband","sha256":"6563bb9a659b4ddcfcc3eef653c18',
        '749a20dfa0a30e5d314680788690716355f"},"channel":1,"start":0,"stop":64,"how":{"kind":"even","start":0,"st',
        'ep":1},"low":0,"high":255,"largest":255,"step":1000,"order":"waves","axes":[[0,1,2],[0,1,2]],"base":[-8,',
        '0,31,31,5],"extra":[0,0,0],"parts":[[{"coder":"lattice","mode":{"kind":"psnr","decibels":40.0},"writer":',
        '"MedAE 0.1.0","model":{"name":"ct-mr-codec","sha256":"92f66093c65ca0d465d173e85f9924b17642f8d3031db8f929',
        'a4c21d5f250b1d"},"waves":{"name":"ct-mr-codec-subband-2","sha256":"725270911938db862b94821538ee1abe6effb',
        '6f64e95817b35bd2549cc4d989c"},"restoration":{"name":"ct-mr-codec-restoration-2","sha256":"21cd5862de561d',
        '31f3b8cad0574e6b201880cf5bc1a8374c2a213203d0370112"},"volume":{"shape":[1,512,512,32],"dtype":"int16","a',
        'ffine":[[-1.0,0.0,0.0,0.0],[0.0,-1.0,0.0,0.0],[0.0,0.0,1.0,0.0],[0.0,0.0,0.0,1.0]],"name":"","modality":',
        '"CT","meta":{"header":{}}},"spacing_um":[1000,1000,1000],"chunks":[{"channel":0,"start":0,"stop":32,"how',
        '":{"kind":"even","start":-1024,"step":1},"low":0,"high":4095,"largest":4095,"step":10000,"order":"waves"',
        ',"axes":[[0,1],[0,1],[0,1,2],[0,1,2],[0,1,2]],"base":[0,0,31,31,5],"restored":true,"extra":[0,0,0],"part',
        's":[[0,0,0]]}],"payload_bytes":0,"payload_sha256":"',
    )
).encode("ascii")

SHORT = COMMON + "".join(
    (
        '"front":{"name":"ct-mr-codec-front","sha256":"cd76d72e20e866302dba2156278b7a341df331550113a9a0ad7cd4ecb4b3cf09"',
        '},"0008|0060":"MR","0008|0060":"CT","frames":true,"frame_spacing":2.5,"name":"ct-mr-codec","inside":[0,17,12],',
        '"figures":{"psnr":null,"ssim":1.0,"max_error":0.0},"display":{"window":350.0,"level":40.0},"float64""int32"',
        '"uint16""float32"{"mode":{"kind":"psnr","decibels":40.0},"mode":{"kind":"max-error","bound":1.0},"front":',
        '"how":{"kind":"table","size":12},"how":{"kind":"grid","start":0.0,"step":1.0,"divisor":1.0},"eased":true,',
        '"chunks":[{"stop":32,"how":{"kind":"even","start":-1024,"step":1},"high":1255,"largest":4095,"step":3,"pa',
        'rts":[[0,10,12],[10,20,23]],"order":"front","extra":[0,0,0],{"coder":"packed","planes":true,"payload_byte',
        's":255,"volume":{"meta":{"nifti":{}},"shape":[1,256,256,128],"dtype":"uint8","name":"","modality":"MR","s',
        'hape":[1,512,512,64],"modality":"CT","affine":[-1,0,0,0,0,-1,0,0,0,0,1,0]},"chunks":[{"parts":[]}]}',
    )
).encode("ascii")
